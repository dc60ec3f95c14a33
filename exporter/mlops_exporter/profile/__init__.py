"""The reference profile: what training-time data looked like, frozen into bins."""
