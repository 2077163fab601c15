"""`refsam weights`: download, convert, check and describe weights files."""

from cyclopts import App

app = App(name="weights", help="Download, convert, check and describe weights files.")
