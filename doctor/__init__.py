"""`cxr doctor`: what of this installation works, what does not, and how to mend it."""
