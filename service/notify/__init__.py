"""Telling people and programs what becomes of their jobs: webhooks, Slack's messages, mail.

`service.queue.outbox` writes what is to be told, the dispatcher's process delivers it (`deliver`), users say what they
want to be told (`routes`).
"""
