"""`vaesvc report`: several trained models side by side, on one HTML page that needs nothing beside itself.

records.py   what is shown of one model: `Reported`
folder.py    ... of a folder of this machine
job.py       ... of a job of the service
compare.py   what differs between specifications, and which value is the best of those that may be compared
curves.py    drawings in which the models lie over one another
page.py      the page
"""
