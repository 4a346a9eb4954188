# Thin: each target says what to do; scripts/ knows how. `make help` lists them.
.PHONY: all help demo test test-full bench bench-accuracy bench-serve fuzz verify-page lint clean
.DEFAULT_GOAL := all

all:            ## build the program: build/bulla
	@scripts/build-tree release src/bulla

help:           ## this list
	@sed -n 's/^\([a-z-]*\): *\(.*\)## /\1\t/p' Makefile

demo:           ## install what it needs, build, fetch a small model, ask it a question
	@scripts/demo

test:           ## install what it needs, build with gcc and clang, run every test with reduced counts
	@scripts/test

test-full:      ## the same with the full counts: hours
	@BULLA_FULL=1 scripts/test

bench:          ## speed and memory beside llama.cpp on the demo models
	@scripts/bench

bench-accuracy: ## distance from float arithmetic on the demo models
	@scripts/bench-accuracy

bench-serve:    ## throughput and latency of the server beside llama-server
	@scripts/bench-serve

fuzz:           ## each parser for FUZZ_SECONDS (60) with libFuzzer
	@scripts/fuzz

verify-page:    ## build/verify.html: receipts and evidence verified in a browser, offline
	@scripts/verify-page

lint:           ## layers, forbidden calls and words, scripts
	@scripts/lint

clean:          ## remove build/ (the cache of models stays)
	rm -rf build
