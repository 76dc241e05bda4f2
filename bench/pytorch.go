package main

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed pytorch.py
var serverScript string

//go:embed install.sh
var installScript string

// Debian's, for which python3-torch is; PATH may have another one first.
const python = "/usr/bin/python3"

// server is a Python process that runs PyTorch at one CPU capability; pytorch.py has its requests.
type server struct {
	name, version string
	cmd           *exec.Cmd
	in            io.WriteCloser
	out           *bufio.Reader
}

// startServers starts a server for each capability that this machine has, as /proc/cpuinfo tells. It installs PyTorch if
// that is missing.
func startServers(cpu string) (servers []*server, err error) {
	if exec.Command(python, "-I", "-c", "import torch").Run() != nil {
		fmt.Fprintf(os.Stderr, "%s has no PyTorch: installing Debian's python3-torch\n", python)
		install := exec.Command("sh", "-c", installScript)
		install.Stdout, install.Stderr = os.Stderr, os.Stderr
		if err := install.Run(); err != nil {
			return nil, fmt.Errorf("installing python3-torch by install.sh: %w", err)
		}
	}
	capabilities := []string{"avx2", "avx512"}
	switch {
	case !strings.Contains(cpu, " avx2 "):
		capabilities = []string{"default"}
	case !strings.Contains(cpu, " avx512vl "): // which comes with all that PyTorch asks for
		capabilities = []string{"avx2"}
	}
	for _, capability := range capabilities {
		s, err := startServer(capability)
		if err != nil {
			stopServers(servers)
			return nil, fmt.Errorf("PyTorch at %s: %w", capability, err)
		}
		servers = append(servers, s)
	}
	return servers, nil
}

func startServer(capability string) (*server, error) {
	s := &server{name: "PyTorch " + capability}
	s.cmd = exec.Command(python, "-I", "-c", serverScript, fmt.Sprint(smoothing))
	s.cmd.Stderr = os.Stderr
	// No mmap, and nothing given back to the system: what one call frees serves the next without page faults.
	s.cmd.Env = append(os.Environ(), "ATEN_CPU_CAPABILITY="+capability,
		"MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=1000000000000", "MALLOC_TOP_PAD_=67108864")
	in, errIn := s.cmd.StdinPipe()
	out, errOut := s.cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, s.cmd.Start()); err != nil {
		return nil, err
	}
	s.in, s.out = in, bufio.NewReader(out)
	hello, err := s.out.ReadString('\n')
	version, used, _ := strings.Cut(strings.TrimSpace(hello), " ")
	if err == nil && capability != "default" && used != capability {
		err = fmt.Errorf("it uses %q", used)
	}
	if err != nil {
		stopServers([]*server{s})
		return nil, err
	}
	s.version = version
	return s, nil
}

// stopServers ends the processes by ending their input.
func stopServers(servers []*server) {
	for _, s := range servers {
		s.in.Close()
		s.cmd.Wait()
	}
}

// ask sends a request, and reads the numbers of its answer into to.
func (s *server) ask(to []any, request ...any) error {
	line := fmt.Sprintln(request...)
	_, err := io.WriteString(s.in, line)
	if err == nil {
		var answer string
		answer, err = s.out.ReadString('\n')
		if err == nil && strings.HasPrefix(answer, "error") {
			err = errors.New(strings.TrimSpace(answer))
		} else if err == nil {
			_, err = fmt.Sscan(answer, to...)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: request %q: %w", s.name, strings.TrimSpace(line), err)
	}
	return nil
}

// load gives a case's data to the server through two files in dir.
func (s *server) load(c *benchCase, d *data, dir string) error {
	logits, targets := filepath.Join(dir, "logits"), filepath.Join(dir, "targets")
	if err := errors.Join(os.WriteFile(logits, d.logits, 0o600), os.WriteFile(targets, asBytes(d.targets), 0o600)); err != nil {
		return err
	}
	var ok string
	return s.ask([]any{&ok}, "load", c.dtype, c.outer, c.classes, c.inner, logits, targets)
}

// contenders are PyTorch at this capability, forward, and forward and backward.
func (s *server) contenders(threads int) (pair []*contender) {
	for _, direction := range directions {
		pair = append(pair, &contender{
			name: s.name, direction: direction, threads: threads,
			check: func() (loss, gradient float64, err error) {
				err = s.ask([]any{&loss, &gradient}, "check")
				return loss, gradient, err
			},
			round: func(calls int) (elapsed time.Duration, faults int, err error) {
				err = s.ask([]any{&elapsed, &faults}, "run", direction, threads, warmUp.Nanoseconds(), calls)
				return elapsed, faults, err
			},
		})
	}
	return pair
}
