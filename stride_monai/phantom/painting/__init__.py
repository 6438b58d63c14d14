"""From a plan to pixels: background, focus, optics."""
