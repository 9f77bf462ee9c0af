"""The judgement: from what is (a snapshot) and the time to what shall be done (a plan). No I/O, no clock, no chance."""
