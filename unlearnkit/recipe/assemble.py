"""A recipe's class with the sections that plugins brought."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Discriminator, create_model
from pydantic_core import PydanticCustomError

from unlearnkit.recipe.sections import SORTS, Section

R = TypeVar("R", bound=BaseModel)


class Lacking(Protocol):
    """A plugin that could not be loaded."""

    name: str
    package: str


class Offer(Protocol):
    """What there is to make recipes of: sections, and the plugins that would bring more."""

    sections: Sequence[type[Section]]
    broken: Sequence[Lacking]


def assemble(recipe: type[R], classes: Collection[type[Section]]) -> type[R]:
    """Return `recipe` with every open section replaced by the tagged union of the `classes` that subclass it."""
    unions: dict[Any, Any] = {}
    for base in (sort.section for sort in SORTS):
        mine = [cls for cls in classes if issubclass(cls, base)]
        # One that holds another of its own sort holds one of those that do not.
        holding = [cls for cls in mine if any(info.annotation is base for info in cls.model_fields.values())]
        members = [_assembled(cls, unions) for cls in mine if cls not in holding]
        unions[base] = _union(base, members)
        unions[base] = _union(base, [*members, *(_assembled(cls, unions) for cls in holding)])
    return _assembled(recipe, unions)


def _union(base: type[Section], members: list[type[Section]]) -> Any:
    if len(members) > 1:
        # `Discriminator`, because a `Field` in an annotation is lost where the recipe's field has its own
        return Annotated[Union[tuple(members)], Discriminator("kind")]  # noqa: UP007
    return members[0] if members else Annotated[base, BeforeValidator(_no_kind)]


def _no_kind(_: object) -> object:
    raise PydanticCustomError("no_kind", "no plugin brings a kind for this section")


def _assembled(model: type[R], unions: Mapping[Any, Any]) -> type[R]:
    changed = {
        name: (annotation, info)
        for name, info in model.model_fields.items()
        if (annotation := _replaced(info.annotation, unions)) is not info.annotation
    }
    if not changed:
        return model
    return create_model(model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__, **changed)  # type: ignore[call-overload]


def _replaced(annotation: Any, unions: Mapping[Any, Any]) -> Any:
    if annotation in unions:
        return unions[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _assembled(annotation, unions)
    arguments = get_args(annotation)
    replaced = tuple(_replaced(argument, unions) for argument in arguments)
    if all(new is old for new, old in zip(replaced, arguments, strict=True)):
        return annotation
    if get_origin(annotation) is list:
        return list[replaced[0]]  # type: ignore[valid-type]
    return Union[replaced]  # noqa: UP007
