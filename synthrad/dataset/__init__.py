"""What a prepared dataset holds, said before anybody trains on it, and its way out to other people's formats."""
