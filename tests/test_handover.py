"""What is handed over can be checked: one changed byte, one wrong figure or another key is refused by name."""

import base64
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_task import ran, write_tiny

from unlearnkit.disk import write_json, write_record
from unlearnkit.errors import Exit, UserError
from unlearnkit.evaluation import again
from unlearnkit.evaluation.again import compared
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.report import certificate
from unlearnkit.report.bill import bill
from unlearnkit.report.card import card, head
from unlearnkit.report.statement import claims, files, read, statement
from unlearnkit.run.export import export
from unlearnkit.run.handed import derived
from unlearnkit.run.signature import SIGNATURE, check, sign
from unlearnkit.run.verify import Data, verify
from unlearnkit.seal import SEAL, Sealed

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHIPPED = ROOT / "docs" / "handed-over"
ASKED = (
    "evaluate.audits=[{kind: membership}, {kind: relearning, steps: 4, every: 2}]",
    "evaluate.limits=[{figure: membership/auc, at_least: 0.3, at_most: 0.7}, {figure: f2, at_most: 1}, "
    "{figure: forget/validation/truth/hidden-psnr, at_most: 5}, {figure: relearning/forget_steps, at_least: 9}]",
    "compare=[{kind: retrain}]",
)
GOLD = "retrain"


def recipe_of(folder: Path) -> Any:
    """Return the recipe of the run in a folder."""
    return load(folder / "tiny.yaml", discover(), ASKED).recipe


def made(folder: Path) -> None:
    """Run the tiny recipe with audits and limits, and export one solution."""
    ran(write_tiny(folder), folder / "run", *ASKED)
    export(folder / "run", recipe_of(folder), "epsilon-at-0.5", folder / "out")


@pytest.fixture(scope="session")
def handed(once: Callable[..., Path]) -> Path:
    """Return a folder with the tiny recipe, its `run` and the exported `out`, for tests that only read."""
    return once("handed", made)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Path, Path]]:
    """Return private and public keys of two people."""
    pytest.importorskip("model_signing", reason="the extra `attest` is not installed")
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    folder, found = tmp_path_factory.mktemp("keys"), {}
    for name in ("ours", "theirs"):
        key, paths = generate_private_key(SECP256R1()), (folder / f"{name}.pem", folder / f"{name}.pub")
        paths[0].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        paths[1].write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        found[name] = paths
    return found


@pytest.fixture
def signed(handed: Path, tmp_path: Path, keys: Mapping[str, tuple[Path, Path]]) -> Path:
    """Return a copy of the exported folder that is signed with our key."""
    return export(handed / "run", recipe_of(handed), "epsilon-at-0.5", tmp_path / "signed", keys["ours"][0])


def refused(folder: Path, key: Path | None = None, data: Data | None = None) -> str:
    """Return why a folder is refused."""
    with pytest.raises(UserError) as error:
        list(verify(folder, key, data))
    assert error.value.code == Exit.REFUSED
    return str(error.value)


def sealed_again(folder: Path) -> None:
    """Write the seal anew, as whoever changes a file can."""
    (folder / SEAL).unlink()
    Sealed.measured(folder).write()


def flipped(folder: Path, draw: random.Random) -> Callable[[], None]:
    """Change one byte of one file and return what changes it back; every file is as likely as the others."""
    path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    data = path.read_bytes()
    place = draw.randrange(len(data))
    path.write_bytes(data[:place] + bytes([data[place] ^ draw.randrange(1, 256)]) + data[place + 1 :])

    def back() -> None:
        path.write_bytes(data)

    back.path = path  # type: ignore[attr-defined]
    return back


def test_a_thousand_folders_with_one_changed_byte_are_refused_by_the_name_of_the_file(handed, tmp_path):
    folder = shutil.copytree(handed / "out", tmp_path / "out")
    draw, seen = random.Random(7), set()
    for _ in range(1000):
        back = flipped(folder, draw)
        assert refused(folder).startswith(f"{back.path}: ")
        seen.add(back.path.name)
        back()
    assert seen == {path.name for path in folder.iterdir()}
    assert len(list(verify(folder))) == 3


def test_a_changed_byte_under_a_new_seal_is_refused_by_the_signature(signed, keys):
    draw, seen = random.Random(8), set()
    for _ in range(60):
        back = flipped(signed, draw)
        if back.path.name not in (SEAL, SIGNATURE):  # which sign themselves, or hold what is not signed too
            sealed_again(signed)
            assert back.path.name in refused(signed, keys["ours"][1])
            seen.add(back.path.name)
        back()
        sealed_again(signed)
    assert seen == {path.name for path in signed.iterdir()} - {SEAL, SIGNATURE}
    assert f"that of {keys['ours'][1]}" in list(verify(signed, keys["ours"][1]))[1]
    assert "not checked" in list(verify(signed))[1]


def test_another_key_another_file_and_no_signature_are_refused(handed, signed, keys, tmp_path):
    ours, theirs = keys["ours"], keys["theirs"]
    assert "does not hold" in refused(signed, theirs[1])
    assert "there is no signature" in refused(handed / "out", ours[1])
    (signed / ".gitattributes").write_text("*.safetensors filter=lfs\n")  # as the hub adds
    assert len(list(verify(signed, ours[1]))) == 3
    (signed / "more.bin").write_bytes(b"more")
    assert f"{signed / 'more.bin'}: this file was not handed over" in refused(signed)
    sealed_again(signed)
    assert "more.bin" in refused(signed, ours[1])
    (signed / "more.bin").unlink()
    sealed_again(signed)
    (signed / "forgotten.txt").unlink()
    assert "forgotten.txt: changed since it was sealed: it is not there any more" in refused(signed)
    for wrong in (ours[0], handed / "tiny.yaml", tmp_path / "nowhere.pem"):
        with pytest.raises(UserError, match=r"--key .*: no public key that can be used") as error:
            check(signed, wrong, signed / SIGNATURE)
        assert error.value.code == Exit.USAGE
    with pytest.raises(UserError, match=r"--attest .*: no private key that can be used"):
        sign(signed, ours[1], "signed")


def test_a_signature_is_that_of_model_signing_and_names_the_folder(signed, keys):
    from in_toto_attestation.v1.statement import Statement

    (payload, _), name = envelope(signed), keys["ours"][1]
    assert payload["subject"][0]["name"] == "signed"
    assert [one["name"] for one in payload["predicate"]["resources"]] == sorted(
        path.name for path in signed.iterdir() if path.name not in (SIGNATURE, SEAL)
    )
    import model_signing

    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=name).verify(signed, signed / SIGNATURE)
    ours = json.loads((signed / "statement.json").read_text())
    for one in (payload, ours):  # its own checks
        subjects = [{key: subject[key] for key in ("name", "digest")} for subject in one["subject"]]
        from google.protobuf.json_format import ParseDict
        from in_toto_attestation.v1.resource_descriptor_pb2 import ResourceDescriptor

        descriptors = [ParseDict(subject, ResourceDescriptor()) for subject in subjects]
        Statement(descriptors, one["predicateType"], one["predicate"]).validate()


def envelope(folder: Path) -> tuple[Any, Any]:
    """Return the payload of a signature and the whole of it."""
    whole = json.loads((folder / SIGNATURE).read_text())
    return json.loads(base64.b64decode(whole["dsseEnvelope"]["payload"])), whole


MALFORMED: Mapping[str, Callable[[Any], object]] = {
    "no resources": lambda payload: payload["predicate"].update(resources=[]),
    "no predicate": lambda payload: payload.pop("predicate"),
    "no subject": lambda payload: payload.update(subject=[]),
    "another predicate": lambda payload: payload.update(predicateType="https://example.org/v1"),
    "another statement": lambda payload: payload.update(_type="https://in-toto.io/Statement/v0.1"),
    "a file less": lambda payload: payload["predicate"]["resources"].pop(),
    "another root": lambda payload: payload["subject"][0]["digest"].update(sha256="0" * 64),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_our_own_key_signed_in_another_form_is_refused(what, signed, keys):
    """Section 8.3 and 8.4 of the specification of model signing, with signatures that hold by themselves."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    payload, whole = envelope(signed)
    MALFORMED[what](payload)
    data, sort = json.dumps(payload).encode(), whole["dsseEnvelope"]["payloadType"]
    key = load_pem_private_key(keys["ours"][0].read_bytes(), None)
    pae = f"DSSEv1 {len(sort)} {sort} {len(data)} ".encode() + data
    whole["dsseEnvelope"]["payload"] = base64.b64encode(data).decode()
    whole["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(key.sign(pae, ECDSA(hashes.SHA256()))).decode()
    (signed / SIGNATURE).write_text(json.dumps(whole))
    sealed_again(signed)
    assert "the signature does not hold" in refused(signed, keys["ours"][1])


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole.update(mediaType="application/json"), lambda whole: whole.pop("dsseEnvelope"),
        lambda whole: whole.pop("verificationMaterial"), lambda whole: whole["dsseEnvelope"].update(signatures=[]),
        lambda whole: whole["dsseEnvelope"].update(payloadType="text/plain"), lambda whole: whole.clear(),
    ],
)  # fmt: skip
def test_a_bundle_of_another_form_is_refused(change, signed, keys):
    whole = envelope(signed)[1]
    change(whole)
    (signed / SIGNATURE).write_text(json.dumps(whole))
    sealed_again(signed)
    assert "the signature does not hold" in refused(signed, keys["ours"][1])


def test_the_missing_extra_is_named(handed, monkeypatch, tmp_path, unlearnkit):
    monkeypatch.setitem(__import__("sys").modules, "model_signing", None)
    outcome = unlearnkit("export", handed / "run", "--epsilon", "highest", "--to", "x", "--attest", "k.pem")
    assert outcome.code == Exit.USAGE
    assert "pip install 'unlearnkit[attest]'" in outcome.err
    assert not (tmp_path / "x").exists()


def test_a_key_that_cannot_be_used_is_told_before_anything_is_looked_for(handed, tmp_path, unlearnkit):
    events = handed / "run" / "events.jsonl"
    before = events.stat().st_mtime_ns
    at = ("--epsilon", "37 %", "--to", tmp_path / "x")
    outcome = unlearnkit("export", handed / "run", *at, "--attest", handed / "tiny.yaml")
    assert (outcome.code, events.stat().st_mtime_ns) == (Exit.USAGE, before)
    assert "tiny.yaml: no private key that can be used" in outcome.err


def lied(folder: Path, change: Callable[[Any], object]) -> None:
    """Change the claims of a folder, write all that is made of them anew, and seal it."""
    stated = json.loads((folder / "statement.json").read_text())
    change(stated["predicate"])
    write_json(folder / "statement.json", stated)
    for name, text in derived(stated).items():
        (folder / name).write_text(text)
    facts = json.loads((folder / "unlearnkit.json").read_text())
    write_json(folder / "unlearnkit.json", {**facts, "solution": chosen(stated["predicate"])})
    sealed_again(folder)


def rewritten(file: Path, pattern: str, by: str) -> None:
    """Put another text in place of all that is of a pattern."""
    file.write_text(re.sub(pattern, by, file.read_text()))


ALTERED: Mapping[str, tuple[str, Callable[[Path], object]]] = {
    "weights": ("model.safetensors", lambda file: file.write_bytes(file.read_bytes()[:-1] + b"x")),
    "no weights": ("model.safetensors", Path.unlink),
    "another list": ("forgotten.txt", lambda file: file.write_text(f"{'0' * 64}  nobody.png\n")),
    "praise in the card": ("README.md", lambda file: file.write_text(file.read_text() + "\nAll of it is forgotten.\n")),
    "another bill": (
        "bom.cdx.json",
        lambda file: file.write_text(re.sub('"[0-9a-f]{64}"', f'"{"0" * 64}"', file.read_text())),
    ),
    "a deep bill": ("bom.cdx.json", lambda file: file.write_text("[" * 100_000)),
    "other facts": ("unlearnkit.json", lambda file: file.write_text("{}")),
    "no number": (
        "statement.json",
        lambda file: file.write_text(re.sub('"f1": [0-9.e-]+', '"f1": NaN', file.read_text())),
    ),
    "nothing": (
        "statement.json",
        lambda file: file.write_text(re.sub('"f1": [0-9.e-]+', '"f1": null', file.read_text())),
    ),
    "a lock": ("lock", lambda file: file.write_text("evil")),
}


@pytest.mark.parametrize("what", ALTERED)
def test_what_was_altered_is_named_by_verify_and_by_certificate(what, handed, tmp_path, unlearnkit):
    folder, (name, change) = shutil.copytree(handed / "out", tmp_path / "out"), ALTERED[what]
    change(folder / name)
    if (folder / name).suffix in (".json", ".md", ".txt"):
        sealed_again(folder)
    assert name in refused(folder)
    outcome = unlearnkit("certificate", folder, "--to", tmp_path / "page.html")
    assert outcome.code == Exit.REFUSED
    assert name in outcome.err
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("files", ["[]", "null", '{"a": 3}', f'{{"{"a" * 5000}": "{"0" * 64}"}}'])
def test_a_seal_of_another_form_is_refused(files, handed, tmp_path):
    folder = shutil.copytree(handed / "out", tmp_path / "out")
    write_record(folder / "seal.json", {"format": 2, "files": json.loads(files)})
    assert str(folder) in refused(folder)
    write_record(folder / "seal.json", {"files": {}})
    assert "seal.json" in refused(folder)


def test_a_folder_behind_a_link_is_held_against_its_signature(signed, keys, tmp_path):
    (tmp_path / "link").symlink_to(signed)
    assert list(verify(tmp_path / "link", keys["ours"][1]))


def test_a_key_of_an_unknown_curve_or_sort_is_no_key(handed, tmp_path, unlearnkit):
    at = ("export", handed / "run", "--epsilon", "highest", "--to", tmp_path / "x", "--attest", tmp_path / "k.pem")
    for options in (("ecparam", "-name", "sect283k1", "-genkey", "-noout"), ("genpkey", "-algorithm", "ed25519")):
        subprocess.run(["openssl", *options, "-out", tmp_path / "k.pem"], check=True, capture_output=True)
        outcome = unlearnkit(*at)
        assert outcome.code == Exit.USAGE
        assert "no private key that can be used" in outcome.err


def test_the_folder_that_a_command_runs_in_is_not_replaced(handed, tmp_path, monkeypatch, unlearnkit):
    monkeypatch.chdir(tmp_path)
    outcome = unlearnkit("export", handed / "run", "--epsilon", "highest", "--to", ".")
    assert outcome.code == Exit.FOLDER
    assert "the folder that the command runs in" in outcome.err


def test_figures_are_computed_again_from_a_run_and_from_a_recipe(handed, tmp_path, unlearnkit):
    data = Data(recipe_of(handed), handed, handed / "run")
    said = list(verify(handed / "out", None, data))[-1]
    assert float(re.fullmatch(r"figures: \d+ computed again, at most (\S+) of the figure apart", said)[1]) < 1e-6
    (tmp_path / "pictures").symlink_to(handed / "pictures")
    shutil.copy(handed / "run" / "recipe.resolved.json", tmp_path / "theirs.json")
    outcome = unlearnkit("verify", handed / "out", "--data", "theirs.json").succeeded()
    assert "not those of retrain" in outcome.out.splitlines()[-1]


def chosen(its: Any) -> Any:
    """Return the solution that is claimed."""
    return next(s for s in its["results"]["solutions"] if s["id"] == its["solution"])


LIES: Mapping[str, Callable[[Any], object]] = {
    "epsilon-at-0.5, metrics, forget, validation, truth, hidden-psnr": lambda its: chosen(its)["metrics"]["forget"][
        "validation"
    ]["truth"].update({"hidden-psnr": 1.5}),
    "epsilon-at-0.5, gap": lambda its: chosen(its).update(epsilon=1.01 * chosen(its)["epsilon"]),
    "audits, membership, retrain, auc": lambda its: its["results"]["audits"][0]["solutions"][GOLD].update(auc=0.5),
    "limits, forget validation PSNR, hidden region ≤ 5 dB, epsilon-at-0.5, kept": lambda its: its["results"]["limits"][
        2
    ]["solutions"]["epsilon-at-0.5"].update(kept=True),
    "data, forget, digest": lambda its: its["manifest"]["data"][0].update(digest="0" * 64),
    "frozen part unchanged": lambda its: chosen(its).update(frozen_unchanged=False),
}


@pytest.mark.parametrize("what", LIES)
def test_the_claim_that_fails_is_named_and_no_other(what, handed, tmp_path):
    folder = shutil.copytree(handed / "out", tmp_path / "out")
    lied(folder, LIES[what])
    assert len(list(verify(folder))) == 3  # a lie that is sealed and written everywhere
    first, *wrong = refused(folder, None, Data(recipe_of(handed), handed, handed / "run")).splitlines()
    assert re.fullmatch(rf"{folder}: 1 of \d+ figures are not what is claimed:", first)
    assert [line.partition(": ")[0].strip() for line in wrong] == [what]


def test_other_weights_with_true_claims_are_told_by_their_figures(handed, tmp_path):
    folder = shutil.copytree(handed / "out", tmp_path / "out")
    other = export(handed / "run", recipe_of(handed), "highest", tmp_path / "other")
    stated = read(Sealed.of(folder))
    weights = files(read(Sealed.of(other)))
    shutil.copy(other / "model.safetensors", folder)
    write_json(folder / "statement.json", same := statement(stated["predicate"], weights))
    for name, text in derived(same).items():
        (folder / name).write_text(text)
    sealed_again(folder)
    said = refused(folder, None, Data(recipe_of(handed), handed, handed / "run"))
    assert "epsilon-at-0.5, f1: claimed is" in said
    assert "original, f1" not in said


def test_every_figure_of_the_certificate_is_computed_again(handed):
    """A figure that is changed where it is claimed changes the page, or it is not on it; on it, it is compared."""
    its = read(Sealed.of(handed / "out"))["predicate"]
    models = ["original", "epsilon-at-0.5", GOLD]
    keys = (handed / "out" / "forgotten.txt").read_text()

    def page(claims: Any) -> str:
        return certificate.page(claims, {"model.safetensors": "ab" * 32}, keys, True)

    before, shown = page(its), 0
    for path in numbers(its["results"]):
        changed = json.loads(json.dumps(its))
        inside: Any = changed["results"]
        for step in path[:-1]:
            inside = inside[step]
        inside[path[-1]] += 1 + abs(inside[path[-1]])
        if page(changed) == before or path[-1] in GIVEN:
            continue
        shown += 1
        both = compared(again.claimed(its, models), again.claimed(changed, models))
        assert any(wrong for _, _, wrong in both), path
    assert shown > 50


GIVEN = {"seed", "tolerance", "epsilon", "at_least", "at_most", "forgotten"}
"""Numbers on the page that were asked for; that ε is kept is told by the gap, which is computed again."""


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every number in a JSON value."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(part, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def test_the_certificate_needs_no_image_and_no_weights_of_the_original(handed, tmp_path, unlearnkit):
    shutil.copytree(handed / "run", tmp_path / "run")
    unlearnkit("certificate", tmp_path / "run", "--epsilon", "epsilon-at-0.5", "--to", "run.html").succeeded()
    unlearnkit("certificate", handed / "out", "--to", "out.html").succeeded()
    whole, own = ((tmp_path / name).read_text() for name in ("out.html", "run.html"))
    assert re.sub(r"<dt>model after.*", "", whole) == re.sub(r"<dt>model after.*", "", own)
    assert "<img" not in whole
    assert "1 of 4 limits of the recipe kept; BROKEN" not in whole
    assert "BROKEN: forget validation PSNR, hidden region ≤ 5 dB (found 5.6" in whole
    assert "not legal advice" not in whole
    assert "Nothing on this page is legal advice" in whole
    assert unlearnkit("certificate", handed / "out", "--epsilon", "highest").code == Exit.USAGE
    unlearnkit("certificate", tmp_path / "run", "--to", "first.html").succeeded()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_the_certificate_prints_on_one_page(handed, tmp_path, unlearnkit):
    playwright = pytest.importorskip("playwright.sync_api")
    unlearnkit("certificate", handed / "out", "--to", "out.html").succeeded()
    its = read(Sealed.of(handed / "out"))["predicate"]
    its["results"]["audits"] *= 6
    long = certificate.page(its, {"model.safetensors": "ab" * 32}, "face.png\n" * 99, True)
    (tmp_path / "long.html").write_text(long)
    printed = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        for name in ("out.html", "long.html"):
            page.goto((tmp_path / name).as_uri())
            printed.append(page.pdf(prefer_css_page_size=True))
        browser.close()
    assert [len(re.findall(rb"/Type\s*/Page\b", one)) for one in printed] == [1, 1]


def test_what_comes_from_outside_is_text_in_card_and_certificate(handed):
    evil = "</style><img src=x onerror=alert(1)>\n---\nlicense: mit\n# {{ 7*7 }} "
    stated = read(Sealed.of(handed / "out"))
    its = stated["predicate"]
    its["results"]["name"] = its["manifest"]["weights"]["ref"] = chosen(its)["label"] = evil
    its["manifest"]["data"][0]["name"] = its["results"]["audits"][0]["samples"] = evil
    page = certificate.page(its, {evil: "ab" * 32}, evil, True)
    text = card(stated)
    for one in (page, text.partition("\n---\n\n")[2]):
        assert "<img" not in one
        assert "49 " not in one
    front = yaml.safe_load(text.removeprefix("---\n").partition("\n---\n")[0])
    assert front["model-index"][0]["name"] == f"{evil}: {evil}"
    assert "license" not in front


def test_the_cards_metadata_are_read_by_the_hubs_library(handed):
    hub = pytest.importorskip("huggingface_hub")
    found = hub.ModelCard.load(handed / "out" / "README.md").data
    results = json.loads((handed / "run" / "results.json").read_text())
    row = next(row for row in results["solutions"] if row["id"] == "epsilon-at-0.5")
    assert {(one.dataset_type, one.metric_type): one.metric_value for one in found.eval_results} == {
        (f"{of}-{split}-{against}", "hidden-psnr"): row["metrics"][of][split][against]["hidden-psnr"]
        for of in ("forget", "retain") for split in ("train", "validation") for against in ("truth", "original")
    }  # fmt: skip
    assert found.pipeline_tag == "image-to-image"
    stated = read(Sealed.of(handed / "out"))
    assert "base_model" not in head(stated)
    stated["predicate"]["manifest"]["weights"]["ref"] = f"hub:someone/mae/model.safetensors@{'a' * 40}"
    assert head(stated)["base_model"] == "someone/mae"


def test_the_bill_of_materials_is_valid(handed):
    cyclonedx = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion

    text = (handed / "out" / "bom.cdx.json").read_text()
    assert cyclonedx.JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    broken = text.replace('"machine-learning-model"', '"model"')
    assert cyclonedx.JsonStrictValidator(SchemaVersion.V1_7).validate_str(broken) is not None
    hashes = {one["name"]: one["hashes"][0]["content"] for one in json.loads(text)["components"] if "hashes" in one}
    assert hashes == files(read(Sealed.of(handed / "out")))


def test_a_hidden_retrained_model_and_curves_stay_out_of_the_claims(handed):
    results = json.loads((handed / "run" / "results.json").read_text())
    manifest = json.loads((handed / "run" / "manifest.json").read_text())
    its = claims(results, manifest, "boundary-highest")
    assert [s["id"] for s in its["results"]["solutions"]] == ["boundary-highest", GOLD]
    assert "history" not in chosen(its)
    assert "base" not in its["manifest"]  # a path of the machine
    assert bill(statement(its, {}))["metadata"]["component"]["version"] == "boundary-highest"


def test_a_folder_that_is_accepted_and_one_that_is_refused_are_shipped(unlearnkit, keys):
    """`make handed-over` makes them again, where the shape of what is handed over has changed."""
    key = SHIPPED / "public.pem"
    done = unlearnkit("verify", SHIPPED / "accepted", "--key", key, "--data", SHIPPED / "recipe.yaml").succeeded()
    assert done.out.splitlines()[1] == f"signature: that of {key}, for all files"
    outcome = unlearnkit("verify", SHIPPED / "refused", "--key", key)
    assert outcome.code == Exit.REFUSED
    assert outcome.err.startswith(f"error: {SHIPPED / 'refused' / 'model.safetensors'}: changed since it was sealed")


def test_a_statement_that_lacks_something_is_refused(handed, tmp_path):
    """Whatever is taken out of it, nobody who reads it fails in another way than by a message."""
    folder = shutil.copytree(handed / "out", tmp_path / "out")
    assert list(verify(folder))
    whole, outcomes = json.loads((folder / "statement.json").read_text()), set[bool]()
    seal = json.loads((folder / SEAL).read_text())
    sealed = Sealed(folder, seal["files"])
    for path in keys_in(whole):
        stated = json.loads(json.dumps(whole))
        inside: Any = stated
        for step in path[:-1]:
            inside = inside[step]
        del inside[path[-1]]
        write_json(folder / "statement.json", stated)
        sealed.write([folder / "statement.json"])
        try:
            certificate.page(read(sealed)["predicate"], {}, "", False)
            outcomes.add(bool(list(verify(folder))))
        except UserError:
            outcomes.add(False)
    assert outcomes == {False}


def keys_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every key and of every first element in a JSON value."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield (*path, key)
            yield from keys_in(part, (*path, key))
    elif isinstance(value, list) and value:
        yield (*path, 0)
        yield from keys_in(value[0], (*path, 0))


def test_what_is_no_folder_of_ours_is_told(handed, tmp_path, unlearnkit):
    (tmp_path / "empty").mkdir()
    assert unlearnkit("verify", "nowhere").code == Exit.USAGE
    assert unlearnkit("verify", "empty").code == Exit.REFUSED
    assert "nothing is stated here" in unlearnkit("verify", handed / "run").err
    for command in ("report", "compare"):
        outcome = unlearnkit(command, handed / "out")
        assert (outcome.code, "out: this is no run; give a folder" in outcome.err) == (Exit.FOLDER, True)
    folder = shutil.copytree(handed / "out", tmp_path / "out")
    for data in (b"{}", b"[", b'{"_type": 3}', (folder / "statement.json").read_bytes().replace(b"/v1", b"/v2")):
        (folder / "statement.json").write_bytes(data)
        sealed_again(folder)
        assert "statement.json: this is no statement of unlearnkit" in refused(folder)
