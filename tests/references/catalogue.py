"""The reference posteriors by name."""

from collections.abc import Callable

from tests.references.hierarchies import (
    gp_counts,
    gp_regression,
    horseshoe,
    schools,
    schools_by_hand,
    schools_centered,
    schools_log_normal,
)
from tests.references.posterior import Posterior
from tests.references.regressions import (
    dogs,
    dogs_powers,
    german_credit,
    kidiq,
    kilpisjarvi,
    mesquite,
    radon_pooled,
    sesame,
    wells,
)
from tests.references.series import autoregressive, garch, moving_average

_SCHOOLS = "eight_schools-eight_schools_noncentered"
_MAKERS: dict[str, tuple[Callable[[str], Posterior], str]] = {
    "schools": (schools, _SCHOOLS),
    "schools by hand": (schools_by_hand, _SCHOOLS),
    "schools centred": (schools_centered, _SCHOOLS),
    **{
        name: (make, name)
        for make, names in {
            autoregressive: ["arK-arK"],
            moving_average: ["arma-arma11"],
            garch: ["garch-garch11"],
            gp_regression: ["gp_pois_regr-gp_regr"],
            gp_counts: ["gp_pois_regr-gp_pois_regr"],
            kidiq: [
                *(f"kidiq-kidscore_{kind}" for kind in ("momhs", "momiq", "momhsiq", "interaction")),
                *(f"kidiq_with_mom_work-kidscore_{kind}" for kind in ("interaction_c", "interaction_c2")),
                *(f"kidiq_with_mom_work-kidscore_{kind}" for kind in ("interaction_z", "mom_work")),
            ],
            mesquite: [
                "mesquite-mesquite",
                "mesquite-logmesquite",
                *(f"mesquite-logmesquite_{kind}" for kind in ("logva", "logvas", "logvash", "logvolume")),
            ],
            dogs: ["dogs-dogs"],
            dogs_powers: ["dogs-dogs_hierarchical"],
            wells: ["wells_data-wells_dist", "wells_data-wells_dist100ars_model"],
            radon_pooled: ["radon_mn-radon_pooled"],
            sesame: ["sesame_data-sesame_one_pred_a"],
            kilpisjarvi: ["kilpisjarvi_mod-kilpisjarvi"],
            schools_log_normal: ["eight_schools"],
            german_credit: [f"german_credit_numeric_{kind}logistic_regression" for kind in ("", "sparse_")],
            horseshoe: ["horseshoe"],
        }.items()
        for name in names
    },
}
NAMES = tuple(_MAKERS)


def posterior(name: str) -> Posterior:
    """Return a reference posterior.

    Args:
        name: One of ``NAMES``.
    """
    make, summary = _MAKERS[name]
    return make(summary)
