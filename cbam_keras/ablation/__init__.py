"""ablation."""

from cbam_keras.ablation.results import AblationResults, AblationRow
from cbam_keras.ablation.runs import ABLATIONS, TABLES, _network, run
