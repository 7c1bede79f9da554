"""The verbs that ask a device: doctor, targets, bench, compare, gate, promote, calibrate."""
