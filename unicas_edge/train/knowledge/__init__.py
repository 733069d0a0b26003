"""What a bundle knows: fitted on the tokens of its encoder, and put into a bundle."""
