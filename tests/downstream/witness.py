"""A plugin for pytest: fail a session in which a package of ours came from elsewhere than this environment."""

import sys
from pathlib import Path


def pytest_sessionfinish():
    ours = {name: module for name, module in sys.modules.items() if name.startswith(("unlearnkit", "acme_unlearning"))}
    assert ours
    assert [name for name, module in ours.items() if Path(sys.prefix) not in Path(module.__file__).parents] == []
