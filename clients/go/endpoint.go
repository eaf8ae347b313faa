package seshat

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// endpoints returns the endpoints of a list; each part may be a list with commas, and empty parts are ignored.
func endpoints(texts []string) ([]string, error) {
	var found []string
	for _, text := range texts {
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			address, err := endpoint(part)
			if err != nil {
				return nil, err
			}
			found = append(found, address)
		}
	}
	if len(found) == 0 {
		return nil, invalid("a client needs at least one endpoint")
	}
	return found, nil
}

// endpoint returns the host:port of text, which may begin with http://.
func endpoint(text string) (string, error) {
	address := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "http://"), "/")
	host, port, err := net.SplitHostPort(address)
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || number == 0 || host == "" || strings.ContainsAny(host, "/@ ?#") {
		return "", invalid(fmt.Sprintf("%q is not of the form host:port, e.g. 127.0.0.1:6379", text))
	}
	return address, nil
}
