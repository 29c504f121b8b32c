"""Learning with several objectives: test beds with exact risks, and networks between them."""
