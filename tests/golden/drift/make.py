"""Freeze what other libraries answer: `PYTHONPATH=. python tests/golden/drift/make.py LIBRARY`.

Each is to be run where the library is installed, and writes LIBRARY.json beside this file:

    frouros          0.9.0     BSD-3-Clause
    alibi-detect     0.11.4    Apache-2.0 (later versions are not, and are not to be used)
    evidently        0.7.23    Apache-2.0

The windows are those of tests/reference/drift.py, the same on every machine.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np

from tests.reference.drift import windows

HERE = Path(__file__).parent
LICENCES = {"frouros": "BSD-3-Clause", "alibi-detect": "Apache-2.0", "evidently": "Apache-2.0"}


def each_column(x, y, function):
    return float(np.mean([function(x[:, j].copy(), y[:, j].copy()) for j in range(x.shape[1])]))


def frouros(x, y, kind):
    from functools import partial

    from frouros.detectors.data_drift import (
        EMD,
        MMD,
        PSI,
        CVMTest,
        EnergyDistance,
        HellingerDistance,
        KSTest,
    )
    from frouros.utils.kernels import rbf_kernel

    def distance(detector, a, b):
        detector.fit(X=a)
        answer = detector.compare(X=b)[0]
        return answer.distance if hasattr(answer, "distance") else answer.statistic

    found = {"mmd sigma 1.5": distance(MMD(kernel=partial(rbf_kernel, sigma=1.5)), x, y)}
    singles = {
        "wasserstein": EMD,
        "energy root": EnergyDistance,
        "ks": KSTest,
        "cvm": CVMTest,
    }
    for name, make in singles.items():
        found[name] = each_column(x, y, lambda a, b, make=make: distance(make(), a, b))
    if kind == "uniform":  # bins of equal width, as many as Sturges would take, and none empty
        bins = int(np.ceil(np.log2(len(x) + len(y)) + 1))
        for name, make in {"hellinger": HellingerDistance, "psi": PSI}.items():
            found[name] = each_column(
                x, y, lambda a, b, make=make: distance(make(num_bins=bins), a, b)
            )
    return found


def alibi(x, y, kind):
    import torch
    from alibi_detect.cd import CVMDrift, KSDrift, MMDDrift

    torch.set_default_dtype(torch.float64)

    def distance(detector):
        return float(np.mean(detector.predict(y)["data"]["distance"]))

    mmd = MMDDrift(x, backend="pytorch", device="cpu", n_permutations=1)
    return {
        "mmd": distance(mmd),
        "gamma": float(1 / (2 * mmd._detector.kernel.sigma**2)),
        "ks": distance(KSDrift(x)),
        "ks less": distance(KSDrift(x, alternative="less")),
        "cvm": distance(CVMDrift(x)),
    }


def evidently(x, y, kind):
    import pandas as pd
    from evidently.legacy.calculations.stattests import (
        energy_dist_test,
        hellinger_stat_test,
        jensenshannon_stat_test,
        kl_div_stat_test,
        psi_stat_test,
        wasserstein_stat_test,
    )
    from evidently.legacy.core import ColumnType
    from evidently.legacy.metrics.data_drift import embedding_drift_methods as methods

    def column(test):
        def one(a, b):
            return test.func(pd.Series(a), pd.Series(b), ColumnType.Numerical, 0.1)[0]

        return each_column(x, y, one)

    def embedding(method):
        return float(method(pd.DataFrame(y), pd.DataFrame(x))[0])

    pairs = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    found = {
        "hellinger": column(hellinger_stat_test),
        "wasserstein normed": column(wasserstein_stat_test),
        "energy root": column(energy_dist_test),
        "mmd, cut at 0": embedding(methods.mmd()),
        "gamma of that": float(1 / np.median(pairs) ** 2),
        "ratio": embedding(methods.ratio()),
        "ratio of 2 components": embedding(methods.ratio(pca_components=2)),
        "classifier": embedding(methods.model()),
    }
    for name in ("euclidean", "cosine", "cityblock", "chebyshev"):
        found[name] = embedding(methods.distance(dist=name))
    found["euclidean of 2 components"] = embedding(methods.distance(pca_components=2))
    if kind == "uniform":
        found["kl"] = column(kl_div_stat_test)
        found["psi"] = column(psi_stat_test)
        found["jensen shannon"] = column(jensenshannon_stat_test)
    return found


def main(library):
    ask = {"frouros": frouros, "alibi-detect": alibi, "evidently": evidently}[library]
    cases = []
    for kind, n, m in (
        ("normal", 50, 37),
        ("far", 30, 44),
        ("ties", 60, 60),
        ("uniform", 300, 280),
    ):
        x, y = (np.array(rows) for rows in windows(7, kind, n=n, m=m))
        cases.append({"kind": kind, "n": n, "m": m, "answers": ask(x, y, kind)})
    version = importlib.metadata.version(library)
    frozen = {"library": library, "version": version, "licence": LICENCES[library]}
    text = json.dumps({**frozen, "seed": 7, "cases": cases}, indent=1)
    (HERE / f"{library}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
