from .writers import Writer as Writer
from .writers import load_writers as load_writers
