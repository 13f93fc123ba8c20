"""Checks of each plugin contract, for the tests of plugin packages.

Each check takes a section and raises `AssertionError` with a message that names the class, the method and what was
expected of it. `check_plugin` runs all that fit the sections of a module.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
