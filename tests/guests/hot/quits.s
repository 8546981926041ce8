# Breaks no rule: when it is hot and has nothing to do, exits with code 7.
# expect: exit 0
# style: reactor
# exports: count echo
# call: echo [1]
# stdout: [1]\n
.include "muscle.inc"
.include "channel.inc"
.purgem when_polling
.macro when_polling
    exit 7
.endm
begin
    connect
    serve_echo
channel
