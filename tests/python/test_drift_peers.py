"""The distances of other libraries: frozen answers, and their definitions where they differ.

tests/golden/drift/make.py says how they were made; it asks each library anew where it is there.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from modyn import drift
from tests.reference.drift import windows

GOLDEN = Path(__file__).parents[1] / "golden" / "drift"
LIBRARIES = ["alibi-detect", "evidently", "frouros"]
# alibi-detect hands out distances of single features as float32.
EXACT, AS_FLOAT32 = 1e-9, 1e-6

EQUAL = {
    "frouros": {
        "mmd sigma 1.5": drift.MMD(gamma=1 / (2 * 1.5**2)),
        "wasserstein": drift.Wasserstein(normed=False),
        "ks": drift.KS(),
        "cvm": drift.CVM(),
        "hellinger": drift.Hellinger(bins="sturges"),
        "psi": drift.PSI(bins="sturges"),
    },
    "alibi-detect": {
        "mmd": drift.MMD(),
        "ks": drift.KS(),
        "ks less": drift.KS(alternative="less"),
        "cvm": drift.CVM(),
    },
    "evidently": {
        "hellinger": drift.Hellinger(bins="sturges"),
        "wasserstein normed": drift.Wasserstein(),
        "ratio": drift.DriftedRatio(),
        "ratio of 2 components": drift.DriftedRatio(num_pca_component=2),
        "euclidean": drift.MeanDistance(),
        "cosine": drift.MeanDistance(distance_metric="cosine"),
        "cityblock": drift.MeanDistance(distance_metric="cityblock"),
        "chebyshev": drift.MeanDistance(distance_metric="chebyshev"),
        "euclidean of 2 components": drift.MeanDistance(num_pca_component=2),
        "kl": drift.KL(bins="sturges"),
        "psi": drift.PSI(bins="sturges"),
    },
}


def frozen(library):
    return json.loads((GOLDEN / f"{library}.json").read_text())


def answers(library):
    """(windows, name, answer) of all cases."""
    found = frozen(library)
    for case in found["cases"]:
        x, y = (np.array(w) for w in windows(found["seed"], case["kind"], n=case["n"], m=case["m"]))
        for name, answer in case["answers"].items():
            yield x, y, name, answer


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_has_the_same_definition_has_the_same_value(library):
    compared = set()

    for x, y, name, answer in answers(library):
        if name in EQUAL[library]:
            single = library == "alibi-detect" and name != "mmd"
            value = EQUAL[library][name].distance(x, y).value
            assert value == pytest.approx(answer, abs=AS_FLOAT32 if single else EXACT), name
            compared.add(name)

    assert compared == set(EQUAL[library])


def test_the_bandwidth_is_that_of_alibi_detect():
    for x, y, name, answer in answers("alibi-detect"):
        if name == "gamma":
            gamma = drift.MMD().distance(x, y).details["gamma"]
            assert gamma == pytest.approx(answer, rel=EXACT)


def test_evidentlys_mmd_is_ours_with_its_bandwidth_cut_at_0():
    gamma = None
    for case in frozen("evidently")["cases"]:
        x, y = (np.array(w) for w in windows(7, case["kind"], n=case["n"], m=case["m"]))
        gamma = case["answers"]["gamma of that"]
        value = drift.MMD(gamma=gamma).distance(x, y).value
        assert max(value, 0) == pytest.approx(case["answers"]["mmd, cut at 0"], abs=EXACT)
    assert gamma is not None


@pytest.mark.parametrize("library", ["frouros", "evidently"])
def test_the_root_of_the_energy_distance_is_averaged_over_features_by_others(library):
    """They know one feature at a time; ours is of whole rows."""
    for x, y, name, answer in answers(library):
        if name == "energy root":
            ours = [
                drift.Energy(squared=False).distance(x[:, j], y[:, j]).value
                for j in range(x.shape[1])
            ]
            assert np.mean(ours) == pytest.approx(answer, abs=EXACT)


def test_evidentlys_jensen_shannon_distance_has_natural_logarithms():
    for x, y, name, answer in answers("evidently"):
        if name == "jensen shannon":
            ours = drift.JensenShannon(bins="sturges").distance(x, y).value
            assert ours * np.sqrt(np.log(2)) == pytest.approx(answer, abs=EXACT)


def test_a_classifier_trained_by_stochastic_gradients_finds_about_the_same():
    """Evidently's; other halves, another optimum, and few rows: within 0.15."""
    for x, y, name, answer in answers("evidently"):
        if name == "classifier":
            ours = drift.ClassifierAUC().distance(x, y).value
            assert ours == pytest.approx(max(answer, 1 - answer), abs=0.15)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_libraries_still_answer_so(library, tmp_path, monkeypatch):
    pytest.importorskip(library.replace("-", "_"))
    from tests.golden.drift import make

    monkeypatch.setattr(make, "HERE", tmp_path)
    make.main(library)

    found = json.loads((tmp_path / f"{library}.json").read_text())
    for now, then in zip(found["cases"], frozen(library)["cases"], strict=True):
        assert now["answers"] == pytest.approx(then["answers"], abs=1e-9)
