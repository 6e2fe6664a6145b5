#!/usr/bin/env node
// Runs the program of this platform, which a package of its own carries, in this process's place.
'use strict';

const { spawn } = require('node:child_process');
const { constants } = require('node:os');
const { optionalDependencies } = require('../package.json');

const name = `@steadfast/${process.platform}-${process.arch}`;

function refuse(words) {
  process.stderr.write(`steadfast: ${words}\n`);
  process.exit(1);
}

function program() {
  try {
    return require.resolve(`${name}/bin/steadfast${process.platform === 'win32' ? '.exe' : ''}`);
  } catch {
    if (name in optionalDependencies) {
      refuse(`the package ${name} is not installed. npm leaves it out with --omit=optional, or where it does not reach the ` +
        'registry: run "npm install steadfast --include=optional" with a network');
    }
    const there = Object.keys(optionalDependencies).map((one) => one.slice('@steadfast/'.length));
    refuse(`there is no program for ${process.platform}-${process.arch} (only for ${there.join(', ')}). With Rust, ` +
      '"cargo install steadfast-cli" builds one');
  }
}

const path = program();
const args = process.argv.slice(2);

if (process.execve && process.platform !== 'win32') {
  try {
    process.execve(path, [path, ...args]);
  } catch (error) {
    refuse(`cannot run ${path}: ${error.message}`);
  }
}

// Before Node 22.15 no process takes another's place: this one stays, hands on signals, and ends as its child does.
const child = spawn(path, args, { stdio: 'inherit' });
const atTerminal = [0, 1, 2].some((fd) => require('node:tty').isatty(fd));
for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP', 'SIGUSR2']) {
  // A terminal sends Ctrl-C to both. Two of them would end the gateway at once.
  const both = atTerminal && (signal === 'SIGINT' || signal === 'SIGQUIT');
  process.on(signal, () => both || child.kill(signal));
}
child.on('error', (error) => refuse(`cannot run ${path}: ${error.message}`));
child.on('exit', (code, signal) => {
  if (signal) {
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  }
  // A signal that is ignored here ends nobody: the shell's code for it.
  process.exit(signal ? 128 + constants.signals[signal] : code);
});
