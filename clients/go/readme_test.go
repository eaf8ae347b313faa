package seshat_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheCodeOfTheReadmeRuns runs all code blocks of the README against a cluster of `seshat dev`, whose program
// SESHAT_BINARY names.
func TestTheCodeOfTheReadmeRuns(t *testing.T) {
	binary := os.Getenv("SESHAT_BINARY")
	if binary == "" {
		t.Skip("SESHAT_BINARY is not set")
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 7 {
		t.Fatalf("%d blocks", len(blocks))
	}
	output := run(t, program(t, blocks, startCluster(t, binary)))
	for _, expected := range []string{"true Uruk", "city Ur", "held true", "that is all", "rate=10",
		"no refused invalid_request", "this call has deleted it: true"} {
		if !strings.Contains(output, expected) {
			t.Errorf("%q is missing in\n%s", expected, output)
		}
	}
}

// program is a program of all blocks: a function each.
func program(t *testing.T, blocks [][]string, endpoints string) string {
	t.Helper()
	module, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	var functions, calls strings.Builder
	for i, block := range blocks {
		fmt.Fprintf(&functions, "func block%d(ctx context.Context, client *seshat.Client) error {\n", i)
		fmt.Fprintf(&functions, "_, _ = ctx, client\n%sreturn nil\n}\n", block[1])
		fmt.Fprintf(&calls, "check(block%d(ctx, client))\n", i)
	}
	text := fmt.Sprintf(`package main
import (
	"context"
	"errors"
	"fmt"
	seshat %q
)
var _ = errors.As
func main() {
	ctx := context.Background()
	client, err := seshat.New([]string{%q})
	check(err)
	defer client.Close()
%s}
func check(err error) {
	if err != nil {
		panic(err)
	}
}
%s`, strings.TrimSpace(string(module)), endpoints, calls.String(), functions.String())
	return regexp.MustCompile(`"127\.0\.0\.1:6379".*\}\)`).ReplaceAllString(text, fmt.Sprintf("%q})", endpoints))
}

// run runs a program as if it were a package of this module.
func run(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	source, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
	here, err := filepath.Abs("internal/readme/main.go")
	if err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{here: source}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{source: []byte(program), overlay: replace} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	output, err := exec.CommandContext(t.Context(), "go", "run", "-overlay", overlay, "./internal/readme").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return string(output)
}

// startCluster returns the endpoints of a cluster, which ends with the test.
func startCluster(t *testing.T, binary string) string {
	t.Helper()
	for range 10 {
		dev := exec.Command(binary, "dev", "--base-port", freePorts(t), "--internal-base-port", freePorts(t))
		output, err := dev.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := dev.Start(); err != nil {
			t.Fatal(err)
		}
		end := func() {
			_ = dev.Process.Kill()
			_ = dev.Wait()
		}
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			if _, endpoints, ok := strings.Cut(lines.Text(), "SESHAT_ENDPOINTS="); ok {
				t.Cleanup(end)
				return endpoints
			}
		}
		// Another process was faster with a port.
		end()
	}
	t.Fatal("no cluster comes up")
	return ""
}

// freePorts returns the first of three ports in a row that are free.
func freePorts(t *testing.T) string {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := first.Addr().(*net.TCPAddr).Port
		free := true
		for i := 1; i < 3 && free; i++ {
			next, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+i))
			if free = err == nil; free {
				_ = next.Close()
			}
		}
		_ = first.Close()
		if free {
			return fmt.Sprint(port)
		}
	}
	t.Fatal("no ports are free")
	return ""
}
