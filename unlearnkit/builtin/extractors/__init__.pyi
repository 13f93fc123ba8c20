from .exported import exported as exported
from .networks import FIDInception as FIDInception
from .networks import mobilenet as mobilenet
