"""Write the certificate of a solution, from a finished run or from what was exported of it."""

from pathlib import Path

from unlearnkit.disk import write_text
from unlearnkit.errors import Exit, UserError, first_line
from unlearnkit.report.certificate import page
from unlearnkit.report.reading import chosen
from unlearnkit.report.shape import load
from unlearnkit.report.statement import FORGOTTEN, STATEMENT, claims, files
from unlearnkit.report.verdict import recommended
from unlearnkit.run.handed import opened
from unlearnkit.run.signature import SIGNATURE
from unlearnkit.seal import Sealed


def write(place: Path, epsilon: str | None, to: Path) -> Path:
    """Write the page about an exported model, or about a solution of a run, and return its path."""
    sealed = Sealed.of(place)
    if STATEMENT in sealed.files:
        if epsilon is not None:
            raise UserError(f"{place} has one model; leave --epsilon out", Exit.USAGE)
        stated = opened(place).stated
        its, weights = stated["predicate"], files(stated)
    else:
        results, manifest = load(sealed)
        row = recommended(results)[0] if epsilon is None else chosen(results, epsilon)
        kept = f"solutions/{row['id']}/tensors.safetensors"
        if kept not in sealed.files:
            raise UserError(f"{place}: nothing was unlearned in this run, so there is nothing to certify", Exit.FOLDER)
        sealed.verify(f"solutions/{row['id']}/")
        its, weights = claims(results, manifest, row["id"]), {kept: sealed.files[kept]}
    listed = sealed.read(FORGOTTEN).decode()
    try:
        text = page(its, weights, listed, SIGNATURE in sealed.files)
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        if STATEMENT not in sealed.files:
            raise
        wrong = f"it is not as `unlearnkit export` writes one ({first_line(error)})"
        raise UserError(f"{place / STATEMENT}: {wrong}", Exit.REFUSED) from None
    write_text(to, text)
    return to
