"""Files of any size, in and out; what both twins share.

`sources` opens what is uploaded, `targets` takes what is downloaded, `places` names places on this machine,
`calls` has the requests, `reading` a download that survives broken connections.
"""
