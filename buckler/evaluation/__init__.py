"""From probes to numbers: answers, metrics with intervals, calibration, utility."""
