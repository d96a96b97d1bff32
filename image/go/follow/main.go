// Command follow prints a boot as it goes: it reads the status file that
// edgeboot keeps in /run/edgeboot, seen from outside of the machine, and writes
// a line for whatever changed, until the machine is ready.
//
//	follow --pid PID [--deadline 5m]
//
// PID is the machine's PID 1. It ends with 0 when the machine is ready, with 1
// when the machine ended or the deadline passed. A failure is printed and
// followed further, since systemd tries again.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"
)

// Status is what follow needs of edgeboot's status file.
type Status struct {
	Result  string  `json:"result"`
	Message string  `json:"message"`
	Seconds float64 `json:"seconds"`
	Phases  []Phase `json:"phases"`
	Error   *struct {
		Phase   string `json:"phase"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	} `json:"error"`
}

// Phase is one step of a boot.
type Phase struct {
	ID         string  `json:"id"`
	State      string  `json:"state"`
	WaitingFor string  `json:"waitingFor"`
	Seconds    float64 `json:"seconds"`
	Started    float64 `json:"started"`
}

const pause = 100 * time.Millisecond

func main() {
	pid := flag.Int("pid", 0, "PID 1 of the machine, as seen from here")
	deadline := flag.Duration("deadline", 5*time.Minute, "give up after this long")
	flag.Parse()
	if err := follow(fmt.Sprintf("/proc/%d/root", *pid), *deadline); err != nil {
		fmt.Fprintln(os.Stderr, "follow:", err)
		os.Exit(1)
	}
}

func follow(root string, deadline time.Duration) error {
	seen := view{phases: map[string]Phase{}}
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(pause) {
		if _, err := os.Stat(root); err != nil {
			return fmt.Errorf("the machine went off")
		}
		text, err := os.ReadFile(root + "/run/edgeboot/status.json")
		if err != nil {
			continue // not yet
		}
		var now Status
		if err := json.Unmarshal(text, &now); err != nil {
			continue // written again while it was read
		}
		seen.show(now)
		if now.Result == "ready" || now.Result == "offline" {
			fmt.Printf("%6.1f s  %s\n", now.Seconds, now.Result)
			return nil
		}
	}
	return fmt.Errorf("the machine was not ready within %s", deadline)
}

// view is what has been printed already.
type view struct {
	phases  map[string]Phase
	message string
	failure string
}

func (v *view) show(now Status) {
	if now.Message != "" && now.Message != v.message {
		fmt.Printf("%6.1f s  %s\n", now.Seconds, now.Message)
	}
	v.message = now.Message
	for _, phase := range now.Phases {
		before := v.phases[phase.ID]
		v.phases[phase.ID] = phase
		switch {
		case phase.State == "running" && phase.WaitingFor != "" && phase.WaitingFor != before.WaitingFor:
			fmt.Printf("%6.1f s  %-34s waits for %s\n", now.Seconds, phase.ID, phase.WaitingFor)
		case phase.State == before.State:
		case phase.State == "done":
			fmt.Printf("%6.1f s  %-34s done in %.2f s\n", phase.Started+phase.Seconds, phase.ID, phase.Seconds)
		case phase.State == "failed":
			fmt.Printf("%6.1f s  %-34s failed after %.2f s\n", phase.Started+phase.Seconds, phase.ID, phase.Seconds)
		}
	}
	if now.Error == nil {
		v.failure = ""
	} else if now.Error.Message != v.failure {
		v.failure = now.Error.Message
		fmt.Printf("%6.1f s  %s: %s\n", now.Seconds, now.Error.Phase, now.Error.Message)
		if now.Error.Hint != "" {
			fmt.Printf("          %s\n", now.Error.Hint)
		}
	}
}
