"""One-file pages of evaluations: sections of text, tables and figures, without external resources."""
