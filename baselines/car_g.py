"""CAR-G: CAR with squashed Gaussians as models of behaviour policy and mixed reference policy.

The ablation of Section 5.4 and appendix B.3 of the paper; everything else is :mod:`baselines.car`.
Energies are -log π(a|s) in the units of the autoencoder's, so that λ means the same; they differ
from those by a constant, which a threshold would have to follow: it follows from the data. An
action within 1e-6 of a bound has the energy of that distance and no gradient: u = artanh(a) has no
more digits there. A policy that is saturated so far is not drawn back by the density, as none is
by the autoencoder where tanh itself is flat.
"""

from __future__ import annotations

from baselines import car
from baselines.engine.method import Method
from baselines.engine.preparation import as_configured

METHOD = Method(
    name="car_g",
    title="CAR-G",
    paper=car.METHOD.paper,
    config=car.Config,
    agent=car.Agent,
    actions="continuous",
    prepare=as_configured,
    online_overrides=car.METHOD.online_overrides,
    overrides={
        **car.OVERRIDES,
        "*": {
            "density": "gaussian",
            "density_sizes": (256, 256),
            "threshold": None,
            "behaviour_rate": 3e-4,
        },
    },
)
