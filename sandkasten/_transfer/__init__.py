"""Files of any size, in and out; what both twins share.

`calls` has the requests and `places` the paths. `sources` opens what is uploaded; `targets` and `trees` take
what is downloaded, and `reading` lets it go on over connections that break.
"""
