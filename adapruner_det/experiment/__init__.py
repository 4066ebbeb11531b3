"""Methods x keep ratios x seeds on one task: cells that can be killed, shared and tabulated."""
