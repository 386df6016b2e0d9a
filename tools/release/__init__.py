"""The files of a release: ``python -m tools.release --out dist`` makes and checks them.

`archives` builds the source archive and the wheel, and checks what they hold.
`bill_of_materials` lists everything that is shipped or installed with it, in
CycloneDX. `versions` compares the version wherever it is written.
"""
