from .networks import FIDInception as FIDInception
from .networks import exported as exported
from .networks import mobilenet as mobilenet
