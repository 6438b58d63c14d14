"""Where everything on a slide lies, decided before a pixel is drawn, and what is true of it."""
