# Spikecade: a game, a teacher, a student, a chip. `make help` lists what can be asked for.
GAME ?= Pong
GAMES ?= $(GAME)
PLAYER ?= chip
VIEW ?= auto
PORT ?=
# A page stays until it is stopped.
SECONDS ?= $(if $(filter web,$(VIEW)),$(if $(filter full,$(SIZE)),0))
CHIP ?= ns1e
BITS ?= 8
NAME ?= emulator
FILE ?=
SIZE ?= full
ARGS ?=
PYTHON ?= python3
PIP_ARGS ?=

# The paper does not name its ten games; these are the ten of Policy Distillation (Rusu et al. 2015), which it builds on.
TEN := BeamRider,Breakout,Enduro,Freeway,MsPacman,Pong,Qbert,Riverraid,Seaquest,SpaceInvaders
games := $(if $(filter ten,$(GAMES)),$(TEN),$(GAMES))
comma := ,
# One decision is too small to share out: a second BLAS thread only waits, 10 ms and more on a busy machine.
export OPENBLAS_NUM_THREADS ?= 1
run = .venv/bin/python -m
ifeq ($(filter full smoke,$(SIZE)),)
$(error SIZE: found '$(SIZE)', allowed full, smoke)
endif
ifeq ($(filter bench,$(MAKECMDGOALS)) $(SIZE),bench smoke)
$(error SIZE: found 'smoke', allowed with bench full; its own ARGS make it smaller)
endif
smoke = $(if $(filter smoke,$(SIZE)),smoke=$(1))
# Of commands that have no smaller settings: what smoke runs made.
of_smoke = $(if $(filter smoke,$(SIZE)),$(1))
ready := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help setup test test-slow check play replay teacher rollouts distill finetune integers compile verify score faults inspect publish tour report board bench pipeline clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(ready) ## makes the environment in .venv, with the versions in constraints.txt

$(ready): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "setup: $(PYTHON) is too old, 3.11 or newer is needed; try make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv || \
	  { echo "setup: no virtual environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

test: $(ready) ## the test suite, a few minutes
	$(run) pytest -n 2 -m 'not slow' $(ARGS)

test-slow: $(ready) ## the tests that take longer
	$(run) pytest -n 2 -m slow $(ARGS)

check: $(ready) ## style, types and tests, as CI runs them
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(MAKE) test

play: $(ready) ## plays GAME in real time: PLAYER=chip|spec|student|int8|int4|teacher|human|random VIEW=auto|web|window|terminal|video|none SECONDS=60 (0: until stopped) PORT=8731 (of web)
	$(run) deploy.play game=$(GAME) $(call smoke,play) play.player=$(PLAYER) play.view=$(VIEW) $(if $(SECONDS),play.realtime.seconds=$(SECONDS)) $(if $(filter web,$(VIEW)),$(if $(PORT),play.web.port=$(PORT))) $(ARGS)

replay: $(ready) ## plays a recorded run again, to the bit: FILE=runs/Pong/play/.../replay.npz (else the one that ships with GAME) VIEW=auto|window|terminal|video|none SECONDS=10 (else all of it)
	$(run) deploy.rerun game=$(GAME) $(call smoke,replay) replay.view=$(VIEW) $(if $(FILE),replay.file=$(FILE)) $(if $(SECONDS),replay.realtime.seconds=$(SECONDS)) $(ARGS)

teacher: $(ready) ## trains a Double DQN teacher of GAME, or goes on training it
	$(run) rl.train game=$(GAME) $(call smoke,teacher) $(ARGS)

# PLAYER is the chip where nobody named one; whose play is distilled is the teacher's.
recorded = $(if $(filter file,$(origin PLAYER)),teacher,$(PLAYER))
rollouts: $(ready) ## records the teacher of GAME, or PLAYER=random|chip|spec|student, into a replay dataset
	$(run) $(if $(filter teacher random,$(recorded)),rl.collect,deploy.collect) game=$(GAME) $(call smoke,rollouts) $(if $(filter-out teacher,$(recorded)),rollouts.player=$(recorded)) $(ARGS)

distill: $(ready) ## distils one student for GAMES (Pong,Breakout or ten)
	$(run) distill.train 'games=[$(games)]' $(call smoke,distill) $(ARGS)

integers: $(ready) ## fine-tunes the integers of the teacher of GAME: BITS=8|4 (FAQ; ARGS=integers.steps=learned: LSQ)
	$(run) distill.faq game=$(GAME) bits=int$(BITS) $(call smoke,integers) $(ARGS)

finetune: $(ready) ## lets the distilled student of GAME learn on in the game; kept only where it is better
	$(run) distill.finetune game=$(GAME) $(call smoke,finetune) $(ARGS)

compile: $(ready) ## compiles the student of GAMES to a chip: CHIP=ns1e
	$(run) deploy.build 'games=[$(games)]' chip.board=$(CHIP) $(call smoke,build) $(ARGS)

verify: $(ready) ## proves student = spec = cores on recorded pictures
	$(run) distill.verify 'games=[$(games)]' $(call smoke,verify) $(ARGS)
	$(run) deploy.verify 'games=[$(games)]' $(call smoke,verify) $(ARGS)

score: $(ready) ## scores teacher, student and chip of GAMES (Pong,Breakout or ten) side by side, and all games together
	$(run) deploy.score $(if $(findstring $(comma),$(games)),'games=[$(games)]',game=$(games)) $(call smoke,score) $(ARGS)

faults: $(ready) ## scores the chip of GAME as cores, neurons, axons and routes of it break, and draws the curves
	$(run) deploy.faults game=$(GAME) $(call smoke,faults) $(ARGS)

inspect: $(ready) ## usage, places, activity, traffic and energy of the chip of GAME, or of FILE=models/Pong/chip.npz
	$(run) deploy.inspect $(if $(FILE),$(FILE),--game $(GAME)) $(call of_smoke,--root runs/smoke) $(ARGS)

publish: $(ready) ## puts the models of GAMES and a card made from their reports under models/ (ten: models/Ten)
	$(run) $(if $(findstring $(comma),$(games)),deploy.publish_many 'games=[$(games)]',deploy.publish game=$(games)) $(call of_smoke,root=runs/smoke) $(ARGS)

tour: $(ready) ## from the screen to a spike to a vote in ten pictures: docs/tour/*.png of the GAME that ships
	$(run) deploy.tour --game $(GAME) $(call of_smoke,--out runs/smoke/tour) $(ARGS)

report: $(ready) ## scores, costs, curves and clips on disk as one HTML page, runs/report/report.html
	$(run) deploy.report $(call smoke,report) $(ARGS)

board: $(ready) ## TensorBoard on runs/: trainings, all players of a game under the same tags, figures, clips, hyper-parameters
	$(run) deploy.boards $(call smoke,board)
	.venv/bin/tensorboard --logdir runs$(if $(filter smoke,$(SIZE)),/smoke) $(ARGS)

bench: $(ready) ## measures side by side: NAME=emulator|mapping|compiling|placement|loop|teacher|minutes|distill|ablation|student_ablation|codec|dataset|integers|viewers|screenshot
	$(run) bench.$(NAME) $(ARGS)

pipeline: ## everything from nothing for GAME; SIZE=smoke takes the same path in minutes
	$(MAKE) teacher
	$(MAKE) rollouts
	$(MAKE) distill
	$(MAKE) compile
	$(MAKE) verify
	$(MAKE) score

clean: ## removes caches and smoke runs; what was trained and recorded under runs/ stays
	rm -rf runs/smoke outputs .pytest_cache .mypy_cache .ruff_cache .hypothesis
