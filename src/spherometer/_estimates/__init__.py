"""Estimates of what all pairs would say, with the error of not having looked at all of them."""

from spherometer._estimates._estimate import estimate as estimate
