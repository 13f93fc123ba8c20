"""What to write instead of an option that there is not: most of those that people try are fields of the recipe."""

from shlex import quote
from typing import Any, ClassVar

import typer.core

from unlearnkit import recipe as recipes
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.explain import overrides


class Commands(typer.core.TyperGroup):
    """All commands; an unknown option of one of them is answered with what it is called here."""

    elsewhere: ClassVar = {"--to": ("--output", "--out", "--output-dir", "-o"), "RECIPE": ("--config", "--recipe")}
    """What the options and arguments of a command are called elsewhere."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; raise `UserError` for an unknown option that has a place here."""
        words = list(ctx.args)  # which are gone afterwards
        try:
            return super().invoke(ctx)
        except Exception as error:  # click's, or the copy of it that a later typer has
            if not hasattr(error, "option_name") or not (meant := _meant(error.option_name, words, ctx.obj, error)):
                raise
            message = f"there is no option {error.option_name}; {meant}"
        raise UserError(message, Exit.USAGE)


def _meant(flag: str, words: list[str], plugins: Any, error: Any) -> str | None:
    """Say what was meant by the unknown `flag` among the `words` of a command, None where that is not known."""
    name, known = error.ctx.info_name, {word for one in error.ctx.command.params for word in (*one.opts, one.metavar)}
    after = next((number + 1 for number, word in enumerate(words) if word.partition("=")[0] == flag), len(words))
    apart = words[after] if words[after:] and not words[after].startswith("-") else None
    value = words[after - 1].partition("=")[2] or apart if words else None
    to, recipe = (flag in Commands.elsewhere[place] and place in known for place in ("--to", "RECIPE"))
    if to or recipe:
        return f"use --to {value or 'DIR'}" if to else f"the recipe needs none: unlearnkit {name} {value or 'RECIPE'}"
    if "--set" not in known:
        return None
    shape: Any = recipes.PretrainRecipe if name == "pretrain" else recipes.Recipe
    called = flag.lstrip("-").replace("-", "_")
    # A field of the recipe itself goes before one that only some kind of section has.
    found = overrides(called, value, shape) or overrides(called, value, recipes.recipe_class(shape, plugins))
    return f"it is a field of the recipe: {' or '.join(f'--set {quote(one)}' for one in found)}" if found else None
