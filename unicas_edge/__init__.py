"""unicas-edge: screens cervical cytology slides on the computer beside the scanner."""
