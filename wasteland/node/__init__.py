"""What every verb needs of one joined wasteland."""
