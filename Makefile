# SPDX-License-Identifier: GPL-2.0-only
# The kernel's commands for what npm does here:
#	make kselftest TARGETS="mm drivers/pci" summary=1

export TARGETS SKIP_TARGETS summary

.PHONY: all kselftest check docs coverage clean
all: kselftest

kselftest: node_modules
	@node tools/kproto.js kselftest $(TESTFLAGS)
check: node_modules
	@npm run --silent typecheck && npm run --silent lint && npm run --silent layers
docs coverage: node_modules
	@npm run --silent $@

node_modules: package-lock.json
	npm ci
	@touch $@
clean:
	rm -rf docs coverage output.log node_modules/.cache
