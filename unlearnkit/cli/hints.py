"""What to write instead of an option that there is not: most of those that people try are fields of the recipe."""

import re
from shlex import quote
from typing import Any

import typer.core

from unlearnkit import recipe as recipes
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.explain import overrides


class Commands(typer.core.TyperGroup):
    """All commands; an unknown option of one of them is answered with what it is called here."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; raise `UserError` for an unknown option that has a place here."""
        words = list(ctx.args)  # which are gone afterwards
        try:
            return super().invoke(ctx)
        except Exception as error:  # click's, or the copy of it that a later typer has
            unknown = hasattr(error, "possibilities")  # others have an option's name too, and no context
            flag = error.option_name if unknown else None  # type: ignore[attr-defined]
            lone = re.search(r"--set\0([^-=\0][^=\0]*)\0(\w\S*)", "\0".join(words))
            if flag and (meant := _meant(flag, words, error, ctx.obj)):
                raise UserError(f"there is no option {flag}; {meant}", Exit.USAGE) from None
            if lone and hasattr(error, "format_message"):
                said = f"--set {lone[1]} has no value; write it without a blank: --set {lone[1]}={lone[2]}"
                raise UserError(said, Exit.USAGE) from None
            raise


def _meant(flag: str, words: list[str], error: Any, plugins: Any) -> str | None:
    """Say what was meant by the unknown `flag` among the `words` of a command, None where that is not known."""
    command, known = error.ctx.info_name, {n for one in error.ctx.command.params for n in (*one.opts, one.metavar)}
    value = (re.findall(rf"{re.escape(flag)}[=\0]([^-\0][^\0]*)", "\0".join(words)) or [None])[0]
    if "--to" in known and flag in ("--output", "--out", "--output-dir", "-o"):
        return f"use --to {value or 'DIR'}"
    if "RECIPE" in known and flag in ("--config", "--recipe"):
        return f"the recipe needs none: unlearnkit {command} {value or 'RECIPE'}"
    shape, name = recipes.PretrainRecipe if command == "pretrain" else recipes.Recipe, flag[2:].replace("-", "_")
    # A field of the recipe itself goes before one that only some kind of section has.
    found = overrides(name, value, shape) or overrides(name, value, recipes.recipe_class(shape, plugins))
    said = " or ".join(f"--set {quote(one)}" for one in found)
    return f"it is a field of the recipe: {said}" if said and "--set" in known else None
