"""explain_report."""

from cbam_keras.explain_report.images import from_data, from_paths
from cbam_keras.explain_report.models import ENDINGS
from cbam_keras.explain_report.report import Settings, run
