"""Where things are in the repository."""

from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
RECIPES = ROOT / "recipes"
GALLERY = DOCS / "gallery"
PACKAGES = tuple(sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")))


def listed() -> list[Path]:
    """Return the recipes that have a gallery page: those that unlearn."""
    return [*sorted(RECIPES.glob("*.yaml")), *sorted((RECIPES / "papers").glob("*.yaml"))]
