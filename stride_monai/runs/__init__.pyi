from .jobs import Ended as Ended
from .jobs import Job as Job
from .jobs import attempt as attempt
from .runners import Processes as Processes
from .runners import Runner as Runner
from .runners import serial as serial
