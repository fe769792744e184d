import java.io.FileInputStream;
import java.security.cert.*;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.StringSerializer;

/** Users who show certificates: one who may do everything lets another one write, by the name that Java reads in her certificate, and nobody else. */
public class Certified {
    static void write(Properties p, String topic) throws Exception {
        try (Producer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            producer.send(new ProducerRecord<>(topic, 0, null, "certified")).get();
        }
    }

    public static void main(String[] args) throws Exception {
        Properties boss = Rights.properties(args[0], args[1]), hers = Rights.properties(args[0], args[2]);
        X509Certificate cert;
        try (FileInputStream file = new FileInputStream(args[3])) {
            cert = (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(file);
        }
        String name = cert.getSubjectX500Principal().getName();
        System.out.println(name);
        try (Admin admin = Admin.create(boss)) {
            admin.createTopics(List.of(new NewTopic("hers", 1, (short) 1), new NewTopic("his", 1, (short) 1))).all().get();
            Rights.refused(AuthorizationException.class, () -> write(hers, "hers"));
            AccessControlEntry entry = new AccessControlEntry("User:" + name, "*", AclOperation.WRITE, AclPermissionType.ALLOW);
            admin.createAcls(List.of(new AclBinding(new ResourcePattern(ResourceType.TOPIC, "hers", PatternType.LITERAL), entry))).all().get();
            Rights.soon(() -> write(hers, "hers"));
            Rights.refused(AuthorizationException.class, () -> write(hers, "his"));
        }
    }
}
