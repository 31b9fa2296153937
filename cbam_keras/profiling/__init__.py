"""profiling."""

from cbam_keras.profiling.profile import Profile, Row, profile_model
