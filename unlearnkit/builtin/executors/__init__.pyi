from .pools import pools as pools
