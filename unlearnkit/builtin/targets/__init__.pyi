from .aims import Audited as Audited
from .aims import Bound as Bound
from .aims import Epsilon as Epsilon
from .aims import NearRetrained as NearRetrained
from .aims import RetainCost as RetainCost
from .aims import Unseen as Unseen
