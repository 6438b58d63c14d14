from .candidates import Candidates as Candidates
from .candidates import Read as Read
from .candidates import reads_of as reads_of
from .diversity import farthest_first as farthest_first
from .proposing import STRATEGIES as STRATEGIES
from .proposing import propose as propose
from .uncertainty import disagreement as disagreement
from .uncertainty import entropy as entropy
