"""What turns an image into a result: tickets, decoding, prediction, the sweep and the schedule."""
