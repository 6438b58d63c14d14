"""Reader studies: what readers said with and without help, against a panel's labels (docs/reader-studies.md)."""
