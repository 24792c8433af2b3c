"""Methods that choose the noise of each image; a method never grades itself, `certify` does."""

from rddrs_dist.methods.aim import Aim
from rddrs_dist.methods.ancer import Ancer
from rddrs_dist.methods.base import Context, Fit, Method, MethodError, Status
from rddrs_dist.methods.ddrs import DDRS, fit_all
from rddrs_dist.methods.rddrs import RDDRS
from rddrs_dist.methods.rddrs_tr import RDDRSTR
from rddrs_dist.methods.rs import RS
from rddrs_dist.methods.urs import URS

METHODS: dict[str, type[Method]] = {
    cls.name: cls for cls in (RS, DDRS, Ancer, RDDRS, RDDRSTR, URS, Aim)
}

__all__ = [
    "DDRS",
    "METHODS",
    "RDDRS",
    "RDDRSTR",
    "RS",
    "URS",
    "Aim",
    "Ancer",
    "Context",
    "Fit",
    "Method",
    "MethodError",
    "Status",
    "fit_all",
]
